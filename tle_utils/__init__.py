"""Shared code of the book: identify temporal lobe epilepsy on T1 MRI and tell its side."""

import os
import warnings

# One intra-op thread a process: results do not depend on how many folds run side by side.
for _name, _value in {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_DETERMINISTIC_OPS": "1",
}.items():
    os.environ.setdefault(_name, _value)

# The book shows plain progress lines; tqdm's advice to install ipywidgets would only clutter its pages.
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"
