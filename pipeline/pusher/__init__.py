"""Pusher: publishes blessed models for TF Serving."""

from pipeline.pusher.component import Pusher

__all__ = ["Pusher"]
