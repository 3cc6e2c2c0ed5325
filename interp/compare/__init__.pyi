from .across_corpora import Corpora as Corpora
from .across_corpora import corpora as corpora
from .comparable_results import Pair as Pair
from .comparable_results import open_pair as open_pair
from .compared_dictionaries import register_null as register_null
from .latent_splitting import splitting as splitting
from .latent_stability import stability as stability
from .latent_universality import universality as universality
