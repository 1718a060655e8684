// feed.js - /api/v1/events, one stream for all tabs: a browser allows six connections to a host.
//
// The tab that holds the lock reads the stream and passes each message on over a BroadcastChannel; when it closes, another
// gets the lock and goes on after the last id it has seen. A page without locks (a context that is not secure) has a
// stream of its own.

const KINDS = ["hello", "reset", "job", "epoch", "progress", "batch", "version", "classes"];
const REOPEN_MS = 3000;

export class Feed {
    // onMessage(kind, data), onLink(open); allowed(): whether this client may read the stream
    constructor({ onMessage, onLink, allowed }) {
        this.onMessage = onMessage;
        this.onLink = onLink;
        this.allowed = allowed;
        this.open = false;
        this.lastId = "";
        this.source = null; // of the leading tab
        this.leads = false;
        this.channel = new BroadcastChannel("accreted-events");
        this.channel.onmessage = ({ data }) => this.hear(data);
        this.channel.postMessage({ ask: true });
        if (navigator.locks)
            navigator.locks.request("accreted-events", () => new Promise(() => this.lead()));
        else
            this.lead();
    }

    // After a sign-in, or when the stream was refused.
    reopen() {
        if (this.leads)
            this.connect();
        else
            this.channel.postMessage({ reopen: true });
    }

    hear({ ask, reopen, link, kind, data, id }) {
        if (ask && this.leads)
            this.channel.postMessage({ link: this.open });
        else if (reopen && this.leads)
            this.connect();
        else if (link !== undefined)
            this.tellLink(link);
        else if (kind)
            this.tell(kind, data, id);
    }

    tell(kind, data, id) {
        this.lastId = id || this.lastId;
        this.onMessage(kind, data);
    }

    tellLink(open) {
        this.open = open;
        this.onLink(open);
    }

    lead() {
        this.leads = true;
        this.connect();
    }

    connect() {
        this.source?.close();
        clearTimeout(this.timer);
        if (!this.allowed()) {
            this.share({ link: false });
            return; // reopen() comes with the sign-in
        }
        const from = this.lastId ? `?last_event_id=${encodeURIComponent(this.lastId)}` : "";
        const source = new EventSource(`/api/v1/events${from}`);
        this.source = source;
        source.onopen = () => this.share({ link: true });
        source.onerror = () => {
            this.share({ link: false });
            if (source.readyState === EventSource.CLOSED) // refused: the browser does not try again
                this.timer = setTimeout(() => this.connect(), REOPEN_MS);
        };
        for (const kind of KINDS)
            source.addEventListener(kind, (event) =>
                this.share({ kind, data: JSON.parse(event.data), id: event.lastEventId }));
    }

    share(message) {
        if (message.link !== undefined && message.link === this.open)
            return;
        this.channel.postMessage(message);
        this.hear(message);
    }
}
