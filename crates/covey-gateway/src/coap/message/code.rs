//! Methods and statuses of CoAP (RFC 7252 §12.1): one byte, three bits of it the class.

use std::fmt;

/// A method (class 0) or a status (classes 2, 4 and 5); shown as in the standard: `4.04`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u8);

/// The byte of class and detail.
const fn code(class: u8, detail: u8) -> Code {
    Code(class << 5 | detail)
}

impl Code {
    /// 0.00: no request and no response.
    pub const EMPTY: Self = code(0, 0);
    /// 0.01
    pub const GET: Self = code(0, 1);
    /// 0.02
    pub const POST: Self = code(0, 2);
    /// 0.03
    pub const PUT: Self = code(0, 3);
    /// 0.04
    pub const DELETE: Self = code(0, 4);
    /// 2.01 Created
    pub const CREATED: Self = code(2, 1);
    /// 2.02 Deleted
    pub const DELETED: Self = code(2, 2);
    /// 2.03 Valid
    pub const VALID: Self = code(2, 3);
    /// 2.04 Changed
    pub const CHANGED: Self = code(2, 4);
    /// 2.05 Content
    pub const CONTENT: Self = code(2, 5);
    /// 2.31 Continue (RFC 7959 §2.9.1)
    pub const CONTINUE: Self = code(2, 31);
    /// 4.00 Bad Request
    pub const BAD_REQUEST: Self = code(4, 0);
    /// 4.02 Bad Option
    pub const BAD_OPTION: Self = code(4, 2);
    /// 4.03 Forbidden
    pub const FORBIDDEN: Self = code(4, 3);
    /// 4.04 Not Found
    pub const NOT_FOUND: Self = code(4, 4);
    /// 4.05 Method Not Allowed
    pub const METHOD_NOT_ALLOWED: Self = code(4, 5);
    /// 4.08 Request Entity Incomplete (RFC 7959 §2.9.2)
    pub const REQUEST_ENTITY_INCOMPLETE: Self = code(4, 8);
    /// 4.13 Request Entity Too Large
    pub const REQUEST_ENTITY_TOO_LARGE: Self = code(4, 13);
    /// 4.15 Unsupported Content-Format
    pub const UNSUPPORTED_CONTENT_FORMAT: Self = code(4, 15);
    /// 5.00 Internal Server Error
    pub const INTERNAL_SERVER_ERROR: Self = code(5, 0);
    /// 5.03 Service Unavailable
    pub const SERVICE_UNAVAILABLE: Self = code(5, 3);
    /// 5.05 Proxying Not Supported
    pub const PROXYING_NOT_SUPPORTED: Self = code(5, 5);

    /// 0 for methods, 2 for success, 4 for errors of the client, 5 for those of the server.
    #[must_use]
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// What follows the point.
    #[must_use]
    pub const fn detail(self) -> u8 {
        self.0 & 0x1F
    }

    /// A method.
    #[must_use]
    pub const fn is_request(self) -> bool {
        self.class() == 0 && self.0 != 0
    }

    /// A status.
    #[must_use]
    pub const fn is_response(self) -> bool {
        matches!(self.class(), 2 | 4 | 5)
    }

    /// A status of class 2.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.class() == 2
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{:02}", self.class(), self.detail())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
