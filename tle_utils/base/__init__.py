"""What every door stands on: one-line errors, files in place at once, the project's folder, loops with progress,
checksums, intervals, text for readers, and where a result comes from.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"errors": ["TLEError"], "files": ["write_table"], "project": ["require"]},
)
