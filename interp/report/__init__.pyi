from .latent_map import decoder_layout as decoder_layout
from .writing import assets as assets
from .writing import page_is_current as page_is_current
from .writing import write_report as write_report
