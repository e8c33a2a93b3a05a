"""The counter: routes, authentication, request and response shapes, problem details."""
