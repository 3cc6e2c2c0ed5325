from .language_model import LanguageModel as LanguageModel
from .loading import load_model as load_model
from .pretrained import load_tokenizer as load_tokenizer
from .pretrained_tokenizer import PretrainedTokenizer as PretrainedTokenizer
from .tokenizer import Tokenizer as Tokenizer
from .tokenizing import tokenize as tokenize
from .tokens import LabelledTokens as LabelledTokens
from .transformer import Transformer as Transformer
