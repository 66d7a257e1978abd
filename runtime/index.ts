// ofxdpd: upcalls, slow path, megaflow cache, ports.
export {};
