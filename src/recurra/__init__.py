"""Recurra."""
