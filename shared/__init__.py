"""What both planes speak.

Imported before anything of either plane, so that compiled modules are known before one is asked for.
"""

from shared.compiled.finder import install

install()
