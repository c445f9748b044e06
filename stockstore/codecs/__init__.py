"""Codecs: plain objects and single values to bytes, and back."""

from stockstore.codecs.base import Codec
from stockstore.codecs.pickled import PickleCodec
from stockstore.codecs.structural import MsgpackCodec
from stockstore.codecs.values import dumps, loads

__all__ = ["Codec", "MsgpackCodec", "PickleCodec", "dumps", "loads"]
