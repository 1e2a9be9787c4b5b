"""Shared code of the book: identify temporal lobe epilepsy on T1 MRI and tell its side."""

import logging
import os
import warnings

from threadpoolctl import threadpool_limits

# Results depend on no setting of the user. Of the variables of TensorFlow, oneDNN, XLA and Keras only those about
# messages and memory stay, keras.json is not read, and every process computes with one thread, however many run side
# by side; libraries that are loaded already are told so.
_OWN = {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": os.devnull, "TF_DETERMINISTIC_OPS": "1"}
_OWN |= dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
_OWN |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1")
for _name in [name for name in os.environ if name.startswith(("TF_", "KERAS_", "XLA_", "ONEDNN_", "DNNL_"))]:
    if not _name.startswith(("TF_CPP_", "TF_GPU_", "TF_FORCE_GPU_")):
        del os.environ[_name]
os.environ.update(_OWN)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
threadpool_limits(1)

# The book shows plain progress lines; tqdm's advice to install ipywidgets would only clutter its pages.
warnings.filterwarnings("ignore", message="IProgress not found")
# matplotlib tells at length, by paths of this machine, where it keeps what when it may not write into the home.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

__version__ = "0.1.0"
