"""Run the chain of notebooks, and build and publish the book from what they left."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "parameters": ["check"],
        "sphinx_outputs": ["glue_figure"],
    },
)
