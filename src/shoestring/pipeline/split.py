"""Two sets that share no original (no photograph, no scan): one to fit on, one to judge on."""

from collections import Counter

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.pipeline.dataset import Dataset


def split(dataset: Dataset, count: int, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Exactly `count` items, in the order drawn, and what is left to judge on, in the data set's order.

    Items of one group stay together: those of the last group that `count` does not need go unused. Where there are
    labels every class gives the same share of its groups, to within one group, and so it does to every beginning of
    what is drawn: fewer items with the same seed are the first ones of more. Raises BadInput when `count` is below 1 or
    would leave nothing to judge.
    """
    if count < 1:
        raise BadInput(f"split: {count} inputs asked for; take at least 1")
    order = shuffled(dataset, seed)
    used = set(order.group[:count])
    if len(dataset) < count or used.issuperset(dataset.group):
        have = f"{len(dataset)} inputs of {len(set(dataset.group))} originals"
        raise BadInput(f"split: {have} cannot give {count} and leave any to judge; give more")
    judged = [index for index, group in enumerate(dataset.group) if group not in used]
    return order[:count], dataset.take(judged)


def shuffled(dataset: Dataset, seed: int = 0) -> Dataset:
    """All items, group after group, in the order in which `split` draws them: a function of the data and `seed`."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(dataset.group):
        members.setdefault(group, []).append(index)
    return dataset.take(index for group in _order(dataset, members, seed) for index in members[group])


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
