"""ShuffleNAS, the family of single-path one-shot search: twenty blocks, each of four kinds and ten inner widths."""
