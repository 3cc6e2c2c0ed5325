from .across_corpora import Corpora as Corpora
from .across_corpora import corpora as corpora
from .across_models import MIN_FIRED as MIN_FIRED
from .across_models import stability as stability
from .across_models import universality as universality
from .comparable_results import Pair as Pair
from .comparable_results import open_pair as open_pair
from .latent_splitting import splitting as splitting
