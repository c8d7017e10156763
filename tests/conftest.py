"""One thread, and shapes checked at every annotated boundary of the numerical rooms."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook(["recurra.kernels", "recurra.cells", "recurra.layers"], "beartype.beartype")

import torch  # noqa: E402 - after the hook and the number of threads

torch.set_num_threads(1)

from jobs import _own_cache, folder, models, quiet_report  # noqa: E402, F401 - fixtures of the whole job
