"""The web shops under load: several workers of a real server, asked over HTTP by several processes."""
