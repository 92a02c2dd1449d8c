"""The routes of the server, one module a concern; each has `routes(service)`, and `app` puts them together."""
