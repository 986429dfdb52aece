package bench;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/** What is kept of a user: sessions, the place last seen, and which findings were raised. All of it is bounded. */
final class UserState {

  static final int MOST_SESSIONS = 20;
  static final int MOST_RAISED = 64;

  /** A session as it was last seen. */
  static final class Session {
    Context context;
    Set<String> scopes;
    long activity;
    long expires;
    boolean deleted;
  }

  final Map<String, Session> sessions = new LinkedHashMap<>();
  final Set<Integer> raised = new LinkedHashSet<>();
  Context lastContext;
  long lastActivity;

  /** Remembers a session; the one that was stored first makes room. */
  void put(String uid, Session session) {
    sessions.put(uid, session);
    trim(sessions.keySet(), MOST_SESSIONS);
  }

  /** Returns whether a finding is new, and remembers it. */
  boolean raise(int finding) {
    boolean isNew = raised.add(finding);
    trim(raised, MOST_RAISED);
    return isNew;
  }

  private static void trim(Set<?> keys, int most) {
    if (keys.size() > most) {
      var first = keys.iterator();
      first.next();
      first.remove();
    }
  }

  byte[] encode() throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream(512);
    DataOutputStream out = new DataOutputStream(bytes);
    out.writeLong(lastActivity);
    out.writeBoolean(lastContext != null);
    if (lastContext != null) {
      lastContext.write(out);
    }
    out.writeShort(raised.size());
    for (int each : raised) {
      out.writeInt(each);
    }
    out.writeShort(sessions.size());
    for (var entry : sessions.entrySet()) {
      out.writeUTF(entry.getKey());
      write(entry.getValue(), out);
    }
    return bytes.toByteArray();
  }

  static UserState decode(byte[] bytes) throws IOException {
    UserState state = new UserState();
    if (bytes == null) {
      return state;
    }
    DataInputStream in = new DataInputStream(new ByteArrayInputStream(bytes));
    state.lastActivity = in.readLong();
    state.lastContext = in.readBoolean() ? Context.read(in) : null;
    for (int left = in.readShort(); left > 0; left--) {
      state.raised.add(in.readInt());
    }
    for (int left = in.readShort(); left > 0; left--) {
      String uid = in.readUTF();
      state.sessions.put(uid, read(in));
    }
    return state;
  }

  private static void write(Session session, DataOutputStream out) throws IOException {
    session.context.write(out);
    out.writeShort(session.scopes.size());
    for (String scope : session.scopes) {
      out.writeUTF(scope);
    }
    out.writeLong(session.activity);
    out.writeLong(session.expires);
    out.writeBoolean(session.deleted);
  }

  private static Session read(DataInputStream in) throws IOException {
    Session session = new Session();
    session.context = Context.read(in);
    session.scopes = new TreeSet<>();
    for (int left = in.readShort(); left > 0; left--) {
      session.scopes.add(in.readUTF());
    }
    session.activity = in.readLong();
    session.expires = in.readLong();
    session.deleted = in.readBoolean();
    return session;
  }
}
