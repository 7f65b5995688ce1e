"""The admin service: the one writer of the catalog, over HTTP; and the client that the library calls it with.

__main__.py   python -m clipper_nomad.admin      config.py     its settings
server.py     start → ready → stop               app.py        routes and errors of the HTTP application
access.py     token, Host, content type          bodies.py     JSON bodies with Clipper's error texts (pure)
clipper_api.py   Clipper's endpoints             v1_api.py     ours
catalog_rules.py, version_rules.py   what a request changes, or why it is refused (pure)
openapi.py, openapi_schemas.py   the OpenAPI document of both (pure)
views.py      what a catalog looks like in replies (pure)
catalog.py    the store as the handlers use it   frontends.py  calls to frontends' internal addresses
bundle_store.py   bundles on disk                bundle_api.py  their endpoints
client.py     the client, synchronous; imports nothing of the service; bundle_client.py   that of bundles
"""
