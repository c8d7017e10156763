"""Recurrences whose units read only themselves, input product included: equations, one backend a file, and the operator."""
