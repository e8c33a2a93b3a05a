"""The HTTP service: routes, authentication, request and response shapes, problem documents."""
