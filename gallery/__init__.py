"""The gallery: a web service with a page, a JSON API and server-sent events, built in `gallery.server`."""
