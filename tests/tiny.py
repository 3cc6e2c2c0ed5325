"""A configuration of the whole pipeline that runs in seconds; what several tests share."""

from interp.pipeline.config import RunConfig

TINY = RunConfig.tiny()
SECTIONS = TINY.to_dict()
