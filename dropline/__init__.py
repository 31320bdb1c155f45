"""Dropline: drop an image into a bucket; seconds later its caption is metadata and a row in Postgres."""
