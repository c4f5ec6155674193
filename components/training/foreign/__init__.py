"""Models that were made elsewhere, as diffusers lays them out: read, checked, and made a base of what is trained here.

    hub.py      where the folder is: a path, a hub id at a pinned commit, or a mirror of the hub
    folder.py   what it holds, as a record: the network, its scheduler, the shape of what it makes
    licence.py  what it may be used for
    weights.py  its weights: safetensors alone, whole, and those of the network

A folder is read without torch; only the names of its weights take the network itself.
"""
