"""Run the chain of notebooks, and build and publish the book from what they left.

Throughout this door: `profile` is the name of a file in ``notebooks/parameters/`` without extension, `cohort` that of a
cohort of the manifest, `settings` are texts ``notebook.parameter=value``, and `workers` takes the place of the
parameter ``workers`` of every notebook. The run card is ``run.json``: what is known of the run, as a dict.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"overview": ["answer_text"], "parameters": ["check"], "sphinx_outputs": ["glue_figure"]},
)
