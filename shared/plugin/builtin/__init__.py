"""The gateway's own plugins."""

from __future__ import annotations

from shared.plugin.builtin.api_breaker import ApiBreaker
from shared.plugin.builtin.basic_auth import BasicAuth
from shared.plugin.builtin.brotli import Brotli
from shared.plugin.builtin.client_control import ClientControl
from shared.plugin.builtin.consumer_restriction import ConsumerRestriction
from shared.plugin.builtin.cors import Cors
from shared.plugin.builtin.csrf import Csrf
from shared.plugin.builtin.echo import Echo
from shared.plugin.builtin.fault_injection import FaultInjection
from shared.plugin.builtin.file_logger import FileLogger
from shared.plugin.builtin.forward_auth import ForwardAuth
from shared.plugin.builtin.gzip import Gzip
from shared.plugin.builtin.hmac_auth import HmacAuth
from shared.plugin.builtin.http_logger import HttpLogger
from shared.plugin.builtin.ip_restriction import IpRestriction
from shared.plugin.builtin.jwt_auth import JwtAuth
from shared.plugin.builtin.key_auth import KeyAuth
from shared.plugin.builtin.limit_conn import LimitConn
from shared.plugin.builtin.limit_count import LimitCount
from shared.plugin.builtin.limit_req import LimitReq
from shared.plugin.builtin.mocking import Mocking
from shared.plugin.builtin.multi_auth import MultiAuth
from shared.plugin.builtin.prometheus import Prometheus
from shared.plugin.builtin.proxy_cache import ProxyCache
from shared.plugin.builtin.proxy_mirror import ProxyMirror
from shared.plugin.builtin.proxy_rewrite import ProxyRewrite
from shared.plugin.builtin.real_ip import RealIp
from shared.plugin.builtin.redirect import Redirect
from shared.plugin.builtin.referer_restriction import RefererRestriction
from shared.plugin.builtin.request_id import RequestId
from shared.plugin.builtin.request_validation import RequestValidation
from shared.plugin.builtin.response_rewrite import ResponseRewrite
from shared.plugin.builtin.syslog import Syslog
from shared.plugin.builtin.tcp_logger import TcpLogger, UdpLogger
from shared.plugin.builtin.traffic_split import TrafficSplit
from shared.plugin.builtin.ua_restriction import UaRestriction
from shared.plugin.builtin.uri_blocker import UriBlocker
from shared.plugin.plugin import AnyPlugin

BUILTIN: tuple[type[AnyPlugin], ...] = (
    ApiBreaker,
    BasicAuth,
    Brotli,
    ClientControl,
    ConsumerRestriction,
    Cors,
    Csrf,
    Echo,
    FaultInjection,
    FileLogger,
    ForwardAuth,
    Gzip,
    HmacAuth,
    HttpLogger,
    IpRestriction,
    JwtAuth,
    KeyAuth,
    LimitConn,
    LimitCount,
    LimitReq,
    Mocking,
    MultiAuth,
    Prometheus,
    ProxyCache,
    ProxyMirror,
    ProxyRewrite,
    RealIp,
    Redirect,
    RefererRestriction,
    RequestId,
    RequestValidation,
    ResponseRewrite,
    Syslog,
    TcpLogger,
    UaRestriction,
    UdpLogger,
    TrafficSplit,
    UriBlocker,
)
