"""The local cache: content addressing, downloads, and files from third parties."""
