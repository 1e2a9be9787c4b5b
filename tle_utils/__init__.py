"""Shared code of the book: identify temporal lobe epilepsy on T1 MRI and tell its side."""

import os
import warnings

# One intra-op thread per process: results do not depend on how many folds run side by side.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_DETERMINISTIC_OPS"):
    os.environ.setdefault(_name, "1")

# The book shows plain progress lines; tqdm's advice to install ipywidgets would only clutter its pages.
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"
