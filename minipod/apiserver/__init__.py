"""The Kubernetes API of the node over HTTP, and the store of its objects.

a request     server -> app (requestinfo, auth/) -> endpoints, by call, query, selecting; every error: status
a kind        kinds/: one `Resource` (resources) each; first_objects: what is there from the first start on
a read        listing, table (pod_row), negotiation; watching -> fanout
a write       codec (yaml_loader, protobuf with protobuf_fields and wire) -> admission, admission_pods, admission_runtime
              patch, strategic; server-side apply: managed, fieldset
the store     store_sqlite: lifecycle's rules over storage's bytes; disk writes them; store_file: the file's layout
more paths    discovery, openapi, openapi_proto; subresources, scale; pod_streams over streams; metrics
"""
