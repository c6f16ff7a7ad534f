"""The local cache: content addressing, downloads, and files of others."""
