"""The shipped class names: complete, distinct, in the order of published checkpoints."""

import pytest

from shoestring.core.errors import BadInput
from shoestring.models.labels import class_names

# Well-known anchors of the ILSVRC 2012 order, across the whole range.
ANCHORS = {
    0: "tench", 1: "goldfish", 9: "ostrich", 107: "jellyfish", 207: "Golden Retriever", 281: "tabby cat",
    340: "zebra", 388: "giant panda", 404: "airliner", 508: "computer keyboard", 609: "jeep", 717: "pickup truck",
    817: "sports car", 920: "traffic light", 954: "banana", 999: "toilet paper",
}  # fmt: skip


def test_imagenet():
    names = class_names("imagenet")
    assert len(names) == len(set(names)) == 1000
    assert all(name == name.strip() and name for name in names)
    assert {index: names[index] for index in ANCHORS} == ANCHORS


def test_cifar10():
    assert class_names("cifar10") == (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["imagenet21k", "", "../zoo", "README"])
def test_unknown_list(name: str):
    with pytest.raises(BadInput, match="known are imagenet, cifar10"):
        class_names(name)
