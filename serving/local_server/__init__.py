"""A development stand-in for TensorFlow Serving: its gRPC services and REST API over a SavedModel in a Session.

Not for production: it is Python, has no batching across requests, no TLS, no authentication and no metrics.
"""
