"""What joins the process memories of many processes: a channel on which writers name the keys that they write."""

from stockstore.channels.base import Channel, Contact, Garbled, Heard, Line, Listener, Proof

__all__ = ["Channel", "Contact", "Garbled", "Heard", "Line", "Listener", "Proof"]
