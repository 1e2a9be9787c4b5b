"""What the user has set in the environment or in keras.json changes no number."""

import json
import os
import subprocess
import sys

import pytest

OWN = ("TF_", "KERAS_", "XLA_", "ONEDNN_", "DNNL_", "OMP_", "OPENBLAS_", "MKL_", "VECLIB_")
SETTINGS = (
    "import json, os; import numpy; import tle_utils; from threadpoolctl import threadpool_info;"
    f"print(json.dumps([{{k: v for k, v in os.environ.items() if k.startswith({OWN})}},"
    "[pool['num_threads'] for pool in threadpool_info()]]))"
)
TRAINED = """
import hashlib
import numpy as np
from tle_utils.models import networks
from tle_utils.models.networks import keras
rng = np.random.default_rng(0)
x, y = rng.normal(size=(24, 160, 160, 1)).astype("float32"), rng.integers(0, 2, 24)
net = networks.build("figure_9", 2, seed=0)
net.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
keras.utils.set_random_seed(0)
net.fit(x, y, batch_size=8, epochs=2, verbose=0)
p = net.predict(x, verbose=0)
values = np.linalg.svd(x.reshape(24, -1) @ rng.normal(size=(25600, 24)))[1]
print(hashlib.sha256(p.tobytes() + values.tobytes()).hexdigest(), p.dtype)
"""
THREE = {"TF_NUM_INTRAOP_THREADS": "4", "TF_NUM_INTEROP_THREADS": "3", "OMP_NUM_THREADS": "4"}
ODD = {"backend": "theano", "floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.01}


def run(code, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    return subprocess.run([sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def settings():
    return json.loads(run(SETTINGS).stdout)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KERAS_BACKEND", "torch"),
        ("KERAS_BACKEND", "jax"),
        ("KERAS_HOME", "/etc"),
        ("KERAS_MAX_EPOCHS", "1"),
        ("TF_NUM_INTRAOP_THREADS", "4"),
        ("TF_NUM_INTEROP_THREADS", "4"),
        ("TF_DETERMINISTIC_OPS", "0"),
        ("TF_ENABLE_ONEDNN_OPTS", "0"),
        ("TF_XLA_FLAGS", "--tf_xla_auto_jit=2"),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16"),
        ("OMP_NUM_THREADS", "4"),
        ("OPENBLAS_NUM_THREADS", "4"),
        ("MKL_NUM_THREADS", "4"),
    ],
)
def test_a_variable_of_the_user_changes_no_setting(settings, name, value):
    assert set(settings[1]) == {1}, "libraries that were loaded before are told too"
    assert json.loads(run(SETTINGS, **{name: value}).stdout) == settings


def test_variables_about_messages_and_memory_stay():
    kept = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_FORCE_GPU_ALLOW_GROWTH": "true", "TF_GPU_ALLOCATOR": "cuda_malloc_async"}
    assert kept.items() <= json.loads(run(SETTINGS, **kept).stdout)[0].items()


def test_networks_learn_the_same_whatever_the_user_has_set(tmp_path):
    """Also where Keras was loaded, with the user's keras.json, before the book's code."""
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(ODD))
    plain = run(TRAINED)
    odd = run(TRAINED, HOME=str(tmp_path), KERAS_BACKEND="jax", TF_ENABLE_ONEDNN_OPTS="0", **THREE)
    before = run(f"import keras\n{TRAINED}", HOME=str(tmp_path), KERAS_BACKEND="tensorflow", KERAS_MAX_EPOCHS="1")
    assert plain.stdout.endswith("float32\n")
    assert odd.stdout == before.stdout == plain.stdout, odd.stderr + before.stderr


def test_keras_of_another_backend_is_refused_in_one_line():
    code = (
        "import keras; keras.backend.backend = lambda: 'jax'\n"
        "from tle_utils.base.errors import TLEError\n"
        "try:\n    import tle_utils.models.networks\nexcept TLEError as error:\n    print(error)"
    )
    assert run(code).stdout == "keras was loaded with jax before tle_utils: import tle_utils first\n"
