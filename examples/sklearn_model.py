"""A scikit-learn model. It is trained when this file is loaded, and its method is deployed as it is.

clipper-nomad up --local
clipper-nomad deploy examples/sklearn_model.py:clf.predict --name diabetes
clipper-nomad predict diabetes '[0.05, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02]'
"""

from __future__ import annotations

from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

X, y = load_diabetes(return_X_y=True)
clf = LinearRegression().fit(X, y)
