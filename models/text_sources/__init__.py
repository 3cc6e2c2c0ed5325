"""The sources of text that a corpus can name: every file of this folder is read, and each function under `@text_source`
in it is registered (`models.sources`).

`installed_text` has the text that ships with installed packages, `generated` the pages and languages that are made up,
`own_text` a user's files and data sets. A new source is a function in a file here, or in a script of the user's own.
"""

from interp.runtime.registry import import_files

import_files(__name__, __path__)
