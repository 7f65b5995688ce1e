"""The query frontend: answers predictions over HTTP, from model replicas that connect to it over ZeroMQ.

The way of a query: http_predict (bytes → request) → predict_request (body → inputs) → endpoints (app, deadlines) →
dispatch (queue → batch → replica) → router (frames) … and back: router → dispatch → answers → http_predict.
"""
