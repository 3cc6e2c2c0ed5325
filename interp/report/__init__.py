"""Write a page about a run or a feature store. It works offline, from file://, for as long as there are browsers.

In: a run, or a FeatureStore (optionally with a ranking and a quality table). Out: a folder

    index.html              the page; opens with an overview
    assets/                 style, code, plotly.js
    data/page.js            all that the first paint needs, however many latents there are
    data/table.js           the table's columns, loaded behind the first view
    data/{vocab,rows,summary,map}.js, data/{features,text}-0000.js, …      loaded when looked at

Browsers refuse to fetch() from file://, so data files are scripts that call `receive(name, data)`. Text from a corpus
is only put into JSON, with <, >, & and the line separators escaped, and it leaves the JSON only as text nodes.

`report.live` serves the same page together with the run's model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
