"""What the shops of the web frameworks have in common: the rows. Start reading at examples/shop_flask/app.py or examples/shop_fastapi/app.py."""
