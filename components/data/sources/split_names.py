"""Names of folders that are the splits of a set, in the manner of public sets: train2017 and val2017, trainA and testB."""

import re
from collections import defaultdict
from collections.abc import Iterable

ROLES = {
    "train": "train training trainval",
    "validation": "val valid validation dev eval evaluation",
    "test": "test testing holdout heldout",
    "extra": "extra unlabeled unlabelled",
}
ROLE_OF = {name: role for role, names in ROLES.items() for name in names.split()}
SPLIT = re.compile(rf"(|.*[^a-z])({'|'.join(sorted(ROLE_OF, key=len, reverse=True))})(|[^a-z].*|[ab]|set|data)", re.IGNORECASE)
REST = re.compile(r"[^a-z]+|(?<![a-z])(?:sets?|data|images?|imgs?|split|a|b)(?![a-z])", re.IGNORECASE)


def look_like_splits(names: Iterable[str]) -> bool:
    """Whether folders are splits: some train and some do not, but for that their names are one; or each is a split's bare name.

    >>> look_like_splits(["train2017", "val2017"]), look_like_splits(["train", "test", "masks"]), look_like_splits(["val", "dev"])
    (True, True, True)
    >>> look_like_splits(["train", "bus"]), look_like_splits(["train_station", "test_tube"]), look_like_splits(["dev1", "dev2"])
    (False, False, False)
    """
    names = {name.lower() for name in names}
    roles: dict[str, set[str]] = defaultdict(set)  # what is left of the name -> what such folders are for
    for found in filter(None, map(SPLIT.fullmatch, names)):
        roles[REST.sub("", found[1] + found[3])].add(ROLE_OF[found[2]])
    trained = any("train" in each and len(each) > 1 for each in roles.values())
    return trained or names <= ROLE_OF.keys()
