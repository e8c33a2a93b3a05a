"""The demo's made-up people, a small model that knows them, and the data of a forget request about some of them."""
