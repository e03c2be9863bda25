"""The endpoint of the census web site: what people filled there is handed in by its servers, over TLS, with a token.

Receiving, desk and answers are those of the OpenRosa endpoint. Source of the conventions: docs/online.md.
"""
