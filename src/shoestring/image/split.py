"""Calibration and judgement: two sets that share no photograph."""

from collections import Counter

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.image.dataset import Dataset


def split(dataset: Dataset, calibration: int, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Exactly `calibration` items, in the order drawn, and what is left to judge on, in the data set's order.

    Items of one group stay together: those of the last group that calibration does not need go unused. Where there
    are labels every class gives the same share of its groups, to within one group. The same arguments give the same
    split. Raises BadInput when `calibration` is below 1 or would leave nothing to judge.
    """
    if calibration < 1:
        raise BadInput(f"split: {calibration} images for calibration; give at least 1")
    members: dict[str, list[int]] = {}
    for index, group in enumerate(dataset.group):
        members.setdefault(group, []).append(index)
    chosen: list[int] = []
    used: set[str] = set()
    for group in _order(dataset, members, seed):
        if len(chosen) >= calibration:
            break
        chosen += members[group]
        used.add(group)
    if len(chosen) < calibration or len(used) == len(members):
        have = f"{len(dataset)} images of {len(members)} photographs"
        raise BadInput(f"split: {have} cannot give {calibration} to calibrate and leave any to judge; give more images")
    judged = [index for index, group in enumerate(dataset.group) if group not in used]
    return dataset.take(chosen[:calibration]), dataset.take(judged)


def _order(dataset: Dataset, members: dict[str, list[int]], seed: int) -> list[str]:
    """Groups in random order such that every beginning of it holds each class in proportion, to within one group.

    The k-th of a class's n groups in random order gets a place drawn from [k/n, (k+1)/n) (systematic sampling).
    A group's class is that of its first item.
    """
    rng = np.random.default_rng(seed)
    names = list(members)
    groups = [names[position] for position in rng.permutation(len(names))]
    classes = {group: dataset.items[members[group][0]].target for group in groups}
    size = Counter(classes.values())
    seen: Counter[int | None] = Counter()
    place = {}
    for group in groups:
        target = classes[group]
        place[group] = (seen[target] + rng.random()) / size[target]
        seen[target] += 1
    return sorted(groups, key=place.__getitem__)
