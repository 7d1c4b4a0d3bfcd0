#!/usr/bin/perl
# Between two nodes: forwards their connections, and changes a byte of what passes when it is told to.
# Usage: between.pl ADDRESS PORT A B FILE
# What A connects to ADDRESS goes on to B, and what B connects to it, to A. While FILE exists, it holds a text: the first byte
# of the text is changed where it passes next, once, and FILE is removed.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use Socket qw(IPPROTO_TCP TCP_NODELAY);

my ($address, $port, $one, $two, $order) = @ARGV;
my %beyond = ($one => $two, $two => $one);
my $server = IO::Socket::INET->new(LocalAddr => $address, LocalPort => $port, Listen => 8, ReuseAddr => 1)
	or die "$address:$port: $@\n";
my $readable = IO::Select->new($server);
# The other end of each socket.
my %other;

sub hang_up {
	my ($socket) = @_;
	for my $end ($socket, delete $other{$socket}) {
		next unless defined $end;
		delete $other{$end};
		$readable->remove($end);
		close $end;
	}
}

sub changed {
	my ($bytes) = @_;
	open(my $file, '<', $order) or return $bytes;
	chomp(my $text = <$file> // '');
	close $file;
	my $at = $text eq '' ? -1 : index($bytes, $text);
	return $bytes if $at < 0;
	substr($bytes, $at, 1) ^= "\x01";
	unlink $order;
	return $bytes;
}

$SIG{PIPE} = 'IGNORE';
while (1) {
	for my $socket ($readable->can_read) {
		if ($socket == $server) {
			my $near = $server->accept or next;
			my $far = IO::Socket::INET->new(
				PeerAddr => $beyond{$near->peerhost} // '',
				PeerPort => $port,
				LocalAddr => $address,
				Timeout => 2
			);
			unless ($far) {
				close $near;
				next;
			}
			setsockopt($_, IPPROTO_TCP, TCP_NODELAY, 1) for $near, $far;
			@other{ $near, $far } = ($far, $near);
			$readable->add($near, $far);
			next;
		}
		# Hung up in this round.
		my $to = $other{$socket} or next;
		my $length = sysread($socket, my $bytes, 1 << 20);
		unless ($length) {
			hang_up($socket);
			next;
		}
		$bytes = changed($bytes);
		my $sent = 0;
		while ($sent < $length) {
			my $part = syswrite($to, $bytes, $length - $sent, $sent);
			last unless $part;
			$sent += $part;
		}
		hang_up($socket) if $sent < $length;
	}
}
