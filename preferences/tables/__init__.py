"""SQL, one module a noun. Only `preferences.store.Store` makes these objects."""
