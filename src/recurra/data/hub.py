"""Well-known data sets by a short name, and where the Hugging Face hub keeps their files.

Only sets whose files polars reads as they are (Parquet). Any other one is read by its address, hf://datasets/...
"""

from __future__ import annotations

__all__ = ["HUB_DATA_SETS"]


def _parquet(folder: str, *parts: str) -> dict[str, str]:
    return {part: f"hf://datasets/{folder}/{part}-00000-of-00001.parquet" for part in parts}


# name -> part -> address
HUB_DATA_SETS: dict[str, dict[str, str]] = {
    "ag_news": _parquet("fancyzhx/ag_news/data", "train", "test"),
    "dbpedia_14": _parquet("fancyzhx/dbpedia_14/dbpedia_14", "train", "test"),
    "emotion": _parquet("dair-ai/emotion/split", "train", "validation", "test"),
    "imdb": _parquet("stanfordnlp/imdb/plain_text", "train", "test"),
    # GLUE keeps the labels of its test part secret: the validation part, as everywhere in the literature, is the test.
    "sst2": {
        "train": "hf://datasets/stanfordnlp/sst2/data/train-00000-of-00001.parquet",
        "test": "hf://datasets/stanfordnlp/sst2/data/validation-00000-of-00001.parquet",
    },
    "yelp_polarity": _parquet("fancyzhx/yelp_polarity/plain_text", "train", "test"),
}
