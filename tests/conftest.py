"""What must be set before any test imports TensorFlow."""

import os

# TensorFlow Transform and TensorFlow Recommenders need Keras 2 beside Keras 3; too late once tf.keras was touched.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
