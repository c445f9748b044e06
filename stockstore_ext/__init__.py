"""The seams for frameworks: what SQLAlchemy sessions, web frameworks and command lines call."""
