"""What the models of frameworks are called in a bundle. Clipper's names, where Clipper has such a file.

Deployers write them, and the loaders of the model runtime (its frameworks/) read them.
"""

from __future__ import annotations

KERAS_MODEL = "keras_model.keras"
KERAS_H5 = "keras_model.h5"  # Clipper's
ONNX_MODEL = "model.onnx"  # Clipper's
PYSPARK_FOLDER = "pyspark_model_data"  # Clipper's
PYTORCH_MODULE = "pytorch_model.pkl"  # Clipper's
PYTORCH_WEIGHTS = "pytorch_weights.pkl"  # Clipper's
SKLEARN_PICKLE = "sklearn_model.pkl"
SKLEARN_SKOPS = "sklearn_model.skops"
TENSORFLOW_FOLDER = "tfmodel"  # Clipper's
XGBOOST_MODEL = "xgboost_model.ubj"
