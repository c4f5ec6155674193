"""An adapter: low-rank matrices beside layers of a family whose own weights rest (Hu et al. 2021, arXiv:2106.09685).

    y = W x + s B A x,   s = alpha / rank, or alpha / sqrt(rank) with rsLoRA        A [rank, in], B [out, rank], B = 0 at first

peft lays them beside, learns their names and merges them: W + s B A is the weight of a plain layer again. `targets.py` says which
layers, `merging.py` merges and measures that it changed nothing, `files.py` writes and reads what peft reads, `elsewhere.py`
has a process without genwright load it. Modules here import torch and peft when they are called: the first import of peft takes
seconds.
"""
